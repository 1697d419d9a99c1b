"""Does the explanation stay where the input hardly changes?"""
