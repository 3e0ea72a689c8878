"""What is fetched to a machine once: the cache, and downloads that go on where they stopped."""
