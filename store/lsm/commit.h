/*
 * commit.h - the commit pipeline: admission → claim → insert → log → publish.
 *
 *     any thread                                            the log thread (log.c)
 *     1 admission: set bytes aside                          a take the run of ready slots
 *     2 records and their checksums in memory of their own  b frame → write; fdatasync
 *     3 look into the tables, then lock the keys' stripes   c visible_seq = last
 *     4 read section; view; its memtable takes the memory   d complete, in order; wake waiters
 *     5 decide conditions, created or replaced              e give the bytes back
 *     6 claim numbers: compare-and-swap of (generation, n)  f memtable full? rotate
 *     7 seal the records, link them into the skiplist
 *     8 unlock the stripes; slots ready; log asleep? wake it
 *
 * Everything that can fail or wait comes before 6. From 6 to 8 nothing blocks, because the log
 * takes slots in the order of their numbers. Order in the ring = order in the log = order of
 * numbers, without gaps, so recovery yields a prefix.
 *
 * Two rules make it right:
 *   Decision rule: a condition is decided on the newest version that was *claimed*, visible or not.
 * The stripe of the key makes that stable: versions of a key are claimed and linked under its
 * stripe. Waiting rule: an operation completes only once everything it looked at is durable,
 * whether it succeeded or not. One that made a record waits for its own number, which is greater;
 * one that didn't (failed condition, delete of what isn't there) waits for the greatest number it
 * met.
 *
 * (Compare Pebble's commit pipeline and the LMAX disruptor.)
 *
 * Threads:   said at each function.
 * Ownership: a struct store_write is freed on completion or abort. An operation holds one reference
 * on its node's chunk until then. Errors:    as store.h says at the store_write_… calls.
 */
#ifndef VARVE_STORE_LSM_COMMIT_H
#define VARVE_STORE_LSM_COMMIT_H

#include "store/lsm/engine.h"

#define CLAIM_SEQ_BITS 48u
#define CLAIM_SEQ_MASK ((UINT64_C(1) << CLAIM_SEQ_BITS) - 1)

static inline uint64_t claim_seq(uint64_t claim)
{
    return claim & CLAIM_SEQ_MASK;
}

static inline uint64_t claim_generation(uint64_t claim)
{
    return claim >> CLAIM_SEQ_BITS;
}

static inline uint64_t claim_of(uint64_t generation, uint64_t seq)
{
    return generation << CLAIM_SEQ_BITS | seq;
}

/* One put or delete on its way through the pipeline. */
struct op {
    struct store_write *write;
    struct node *node;
    uint64_t hash; /* of the key: picks the stripe */
    uint32_t payload_checksum;
    bool skipped; /* a delete of what isn't there: makes no record */
    bool last;    /* of those of its write that make a record: it completes the write */
    store_condition_fn *condition;
    void *condition_arg;
    /* What the tables have of the key; holds while the tables cover what they did (covered_seq). */
    struct op_met {
        uint64_t seq; /* 0: no version at all */
        uint64_t modified_ms;
        bool marker;
    } in_tables;
    struct memtable_position position;
};

struct store_write {
    struct store *store;
    struct store_write *next; /* in the queue for admission, or among the waiters */
    bool deletes_only, condition_failed;
    size_t max_ops, n_ops, failed_op;
    uint64_t reserved_bytes, used_bytes;
    uint64_t waiting_since_us;
    uint64_t covered_seq; /* of the view whose tables were looked into */
    uint64_t wait_seq;    /* greatest number met */
    store_write_ready_fn *ready;
    void *ready_arg;
    store_write_done_fn *done;
    void *done_arg;
    struct store_op_result *results;
    struct op **by_stripe; /* operations in the order of their stripes */
    struct op ops[];
};

static inline size_t op_stripe(const struct op *op)
{
    return op->hash % ENGINE_STRIPES;
}

/* --- Admission (admission.c): any thread
 * ---------------------------------------------------------- */

/* Lets in as many of the waiting writes as there is room for, in order; their `ready` runs here. */
void admission_pump(struct store *store);
/* Tries to set `bytes` aside for a write that is under way already. */
bool admission_extend(struct store_write *write, uint64_t bytes);
/* Gives back all that the write had. */
void admission_give_back(struct store *store, uint64_t bytes);
/* Ends those that have waited too long and still can't be let in, with ERR_BUSY. */
void admission_expire(struct store *store);
/* Ends all that wait, with `err`. */
void admission_fail_all(struct store *store, enum err err);

/* --- Completion (commit.c)
 * ------------------------------------------------------------------------ */

/* Calls `done`, gives everything back and frees the write. Any thread. */
void commit_complete(struct store_write *write, enum err err);

/* Completes the waiters whose number is durable; all of them, as unknown, if the log failed. Any
 * thread, after visible_seq or poisoned was set and a full fence. */
void commit_drain_waiters(struct store *store);

#endif
