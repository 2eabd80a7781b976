"""A stock market of fictitious firms: order book, ledger, firms' figures, news, posts, and the loop of days."""
