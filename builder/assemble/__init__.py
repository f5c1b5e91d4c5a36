"""From lock to bundle: contents, volumes, plan, build; and the patches that mend a bundle."""
