"""What a policy's reasoning is worth: decoding by the confidence of answers, and answers behind changed rationales."""
