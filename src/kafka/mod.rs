//! consumer and transactional producer as one session.
