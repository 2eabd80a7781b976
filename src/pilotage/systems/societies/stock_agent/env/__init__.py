"""Stock market of fictitious firms: order book, ledger, figures of the firms, news, posts, and the loop of days."""
