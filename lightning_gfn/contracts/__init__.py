"""Parts of ``types`` and ``interfaces``, which is where they are imported from."""
