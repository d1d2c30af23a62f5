"""What is asked of timm's ViTs beside their tokens: checkpoints, blueprints, token maps, geometry, preprocessing."""
