/*
 * deadline.h - when a connection is too slow to be kept.
 *
 * libmicrohttpd's timeout counts inactivity only: a client that sends a byte a second is never
 * cut off. These rules look at a connection from time to time and judge by what it achieved:
 *
 *   header section   must be complete `header_ms` after its first byte was seen
 *   body, answer     must move `window_bytes` in any `window_ms`
 *   waiting          for us, not for the client: no limit
 *   idle             libmicrohttpd's own timeout
 *
 * Who looks leaves out a client of which bytes have come that we haven't read: then we are late.
 *
 * A connection says where it is in one number, its stamp: the phase, and a count of requests, so
 * that two short requests don't look like a long one.
 *
 * Threads:   a struct belongs to whoever looks; the stamp is handed over by the caller.
 * Ownership: plain values.
 * Errors:    none.
 */
#ifndef SERVICE_DEADLINE_H
#define SERVICE_DEADLINE_H

#include <stdbool.h>
#include <stdint.h>

enum deadline_phase {
    PHASE_IDLE,    /* between requests */
    PHASE_HEADERS, /* the request line was read */
    PHASE_BODY,    /* the headers were read */
    PHASE_WAITING, /* suspended: the store works */
    PHASE_ANSWER,  /* the answer was queued */
};

struct deadline_limits {
    uint64_t header_ms;
    uint64_t window_ms;
    uint64_t window_bytes;
};

/* Slots of the sliding window: it moves in steps of window_ms / DEADLINE_SLOTS. */
#define DEADLINE_SLOTS 6u

/* What is remembered of a connection between two looks. All zero is a new connection. */
struct deadline {
    uint32_t stamp;         /* at the last look */
    bool in_headers;        /* since `since_ms` */
    uint8_t slots;          /* filled ones of marks[] */
    uint64_t since_ms;      /* the header section's first byte was seen */
    uint64_t idle_received; /* bytes received when the last request ended, or at the look after */
    uint64_t next_mark_ms;
    uint64_t marks[DEADLINE_SLOTS]; /* bytes moved at the slots' ends, the oldest first */
};

static inline uint32_t deadline_stamp(enum deadline_phase phase, uint32_t requests)
{
    return requests << 3 | (uint32_t)phase;
}

static inline enum deadline_phase deadline_phase(uint32_t stamp)
{
    return (enum deadline_phase)(stamp & 7);
}

static inline uint32_t deadline_requests(uint32_t stamp)
{
    return stamp >> 3;
}

/* Whether deadline_check() wants to know the byte counts of a connection with this stamp. */
static inline bool deadline_needs_bytes(uint32_t stamp)
{
    return deadline_phase(stamp) != PHASE_WAITING;
}

/* One look at a connection; true: cut it off. `received` and `sent` count the bytes that arrived
 * from and were acknowledged by the client since it connected. */
bool deadline_check(struct deadline *deadline, const struct deadline_limits *limits, uint32_t stamp,
                    uint64_t now_ms, uint64_t received, uint64_t sent);

#endif
