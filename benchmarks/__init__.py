"""Side by side with other libraries: `python -m benchmarks [--only NAME] [--quick]`.

Each benchmark is one file with `NAME`, `TARGETS` and `measure(quick)`; `harness` runs both sides in turn, each in a
process of its own; `results` writes down what came out.
"""
