"""The errors a learner can meet. Each says what was received, what is allowed and what to do."""


class CourseError(ValueError):
    """A problem that the user can mend: the message says how."""


class AssetError(CourseError):
    """A model or dataset file is missing, cannot be fetched, or is not what it should be."""
