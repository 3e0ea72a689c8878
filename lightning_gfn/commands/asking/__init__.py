"""What ``sample``, ``prove`` and ``init`` share: which model a name means, its policy, and what it is asked."""
