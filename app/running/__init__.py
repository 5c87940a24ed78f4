"""What a run keeps of itself: where its trainings lie, its settings, attempts, deadlines, signs of life, figures."""
