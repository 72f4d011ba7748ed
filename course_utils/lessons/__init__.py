"""What each lesson asks: predictions, checks of exercises, quizzes. One module a lesson.

A module `lesson_NN` holds `PREDICTIONS` and `EXERCISES` (dictionaries by number) and `QUIZ`.
"""
