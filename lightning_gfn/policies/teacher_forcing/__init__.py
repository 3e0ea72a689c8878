"""Teacher-forced passes of dense models over packed rows, with hand-written gradients."""
