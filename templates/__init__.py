"""Files that airferry hands out: recipe, site answers, operator values, custom resource."""
