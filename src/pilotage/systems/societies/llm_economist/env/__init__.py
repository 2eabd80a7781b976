"""Population that works, is taxed, receives the revenue in equal shares, and reacts.

Zheng et al. 2022 (AI Economist) made taxation a game of two time scales; Karten et al. 2025 (LLM Economist, arXiv
2507.15815) put language models in both seats. Workers choose weekly hours; a planner changes marginal rates once per
tax year. Money is in dollars a year, hours are weekly, rates are in percent.
"""
