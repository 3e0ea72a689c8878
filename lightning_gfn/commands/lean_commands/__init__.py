"""Sub-commands of lightning-gfn lean; each file is one."""
