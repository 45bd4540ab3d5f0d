"""A fit set against its prior and against REML: conflict, weight, sensitivity, agreement."""
