"""Parts of ``lightning-gfn govern``: its configuration, a policy that writes answers, and what a run folder keeps."""
