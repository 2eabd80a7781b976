from hypothesis import settings

settings.register_profile("no deadline", deadline=None, max_examples=50)  # no test asserts a time
settings.load_profile("no deadline")
