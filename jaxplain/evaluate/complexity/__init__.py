"""Over how many features is an attribution spread?"""
