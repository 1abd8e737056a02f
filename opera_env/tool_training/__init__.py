"""How the tools of a toolbox are made: each trained alone, on the one degradation it is for."""
