"""Commands of ``lightning-gfn``: one file each, loaded when called."""
