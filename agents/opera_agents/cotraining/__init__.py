"""Co-training: tools are trained under an agent's plans, and toolboxes are compared under plans."""
