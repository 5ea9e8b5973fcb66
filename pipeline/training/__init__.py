"""Networks, and how they learn: models, batches, augmentation, fitting, folds, scores."""
