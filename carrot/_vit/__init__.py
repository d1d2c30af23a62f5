"""What is asked of timm's vision transformers beside their tokens: checkpoints, blueprints, token maps, geometry, preprocessing."""
