"""What is asked of timm's models beside features: checkpoints, blueprints, token maps, geometry, preprocessing."""
