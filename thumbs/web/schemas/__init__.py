"""The wire's shapes: what a request may hold, strictly, and what answers look like, for OpenAPI.

Answers are rendered by thumbs.documents; a contract test loads each of them with these schemas, unknown fields refused.
"""

from thumbs.web.schemas.deliveries import (
    DeliveryPageSchema,
    DeliveryQuerySchema,
    DeliverySchema,
    EventPageSchema,
    EventQuerySchema,
    EventSchema,
)
from thumbs.web.schemas.endpoints import (
    EndpointChangeSchema,
    EndpointPageSchema,
    EndpointRequestSchema,
    EndpointSchema,
    NewEndpointSchema,
    NothingSchema,
    PingSchema,
    RecoverRequestSchema,
    RecoverySchema,
    RotateRequestSchema,
    RotationSchema,
)
from thumbs.web.schemas.jobs import (
    BatchRequestSchema,
    BatchSchema,
    CreateHeaderSchema,
    JobFormSchema,
    JobPageSchema,
    JobQuerySchema,
    JobRequestSchema,
    JobSchema,
    KeyHeaderSchema,
)
from thumbs.web.schemas.parts import (
    AnswerSchema,
    Base64,
    PageQuerySchema,
    ProblemSchema,
    WaitHeaderSchema,
    build_url_field,
    write_pattern,
)

__all__ = [
    "AnswerSchema",
    "Base64",
    "BatchRequestSchema",
    "BatchSchema",
    "CreateHeaderSchema",
    "DeliveryPageSchema",
    "DeliveryQuerySchema",
    "DeliverySchema",
    "EndpointChangeSchema",
    "EndpointPageSchema",
    "EndpointRequestSchema",
    "EndpointSchema",
    "EventPageSchema",
    "EventQuerySchema",
    "EventSchema",
    "JobFormSchema",
    "JobPageSchema",
    "JobQuerySchema",
    "JobRequestSchema",
    "JobSchema",
    "KeyHeaderSchema",
    "NewEndpointSchema",
    "NothingSchema",
    "PageQuerySchema",
    "PingSchema",
    "ProblemSchema",
    "RecoverRequestSchema",
    "RecoverySchema",
    "RotateRequestSchema",
    "RotationSchema",
    "WaitHeaderSchema",
    "build_url_field",
    "write_pattern",
]
