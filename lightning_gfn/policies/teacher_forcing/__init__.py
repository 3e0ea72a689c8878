"""Teacher-forced passes of dense Llama-like models over packed rows, with hand-written gradients."""
