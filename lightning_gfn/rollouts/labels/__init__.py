"""Labels of classifications: their probability behind rationales, and answers drawn from them."""
