"""Does the attribution lie where the object is?"""
