"""From a workload to few, ranked, explained suggestions, and to a reason for every silence."""
