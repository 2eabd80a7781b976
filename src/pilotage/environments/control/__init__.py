"""Worlds in which a policy controls a body: Gymnasium environments of ours, and wrappers of others'."""
