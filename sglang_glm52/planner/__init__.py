"""What a GLM-5.2 server needs of a GPU's memory, from shapes alone: `glm52 plan`."""
