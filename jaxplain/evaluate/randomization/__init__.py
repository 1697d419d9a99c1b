"""Does the explanation change with the model?"""
