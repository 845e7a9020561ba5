"""Trials in a lab, index changes on a target, and what live traffic says of them."""
