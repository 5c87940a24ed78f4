"""Learning by reward, or from a teacher, while drafts are drawn."""
