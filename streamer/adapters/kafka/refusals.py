"""What a broker refuses about single records, told apart from what is wrong with the broker or the way to it."""

from __future__ import annotations

from aiokafka import errors

from streamer.errors import DeadLetterKind


class InvalidRecordError(errors.BrokerResponseError):  # type: ignore[misc]  # the client is not typed
    """The topic does not take this record: it is compacted and the record has no key, or a validator says no."""

    errno = 87
    message = "INVALID_RECORD"
    description = "The broker does not take this record: its topic is compacted and it has no key, or it is not valid."


# The client does not know this code (as of 0.14) and would call it unknown, like a broker's passing troubles.
errors.kafka_errors.setdefault(InvalidRecordError.errno, InvalidRecordError)

_TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
_OTHERS = (InvalidRecordError, errors.PolicyViolationError, errors.CorruptRecordException)


def refusal_of(error: BaseException | None) -> DeadLetterKind | None:
    """The kind of dead letter for a message that was refused by itself; None for all other errors.

    A CORRUPT_MESSAGE is one only when it comes again: the record may have been damaged on its way.
    """
    if isinstance(error, _TOO_LARGE):
        return "too_large"
    return "unpublishable" if isinstance(error, _OTHERS) else None


def is_doubtful(error: BaseException | None) -> bool:
    """Whether the same message may be taken when it is sent again."""
    return isinstance(error, errors.CorruptRecordException)


def reason_of(error: BaseException | None) -> str:
    """For the person who reads the dead letter."""
    if isinstance(error, _TOO_LARGE):
        return (
            "the broker refuses the message as too large: raise the topic's max.message.bytes, or lower "
            "kafka.max_message_bytes"
        )
    if isinstance(error, errors.BrokerResponseError):
        return f"the broker refuses the message: {error.message} ({error.description})"
    return f"the broker refuses the message: {error!r}"
