"""Batches cut into passes of limited size, with results that do not depend on the cut."""
