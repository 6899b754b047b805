/*
 * sim_parts.h - what the parts of the simulation share: disk, writes, reads, opening, workload.
 *
 * Threads:   one.
 * Ownership: sim_new() and sim_free(); the parts own nothing by themselves.
 * Errors:    sim_violate(), which keeps the first one.
 */
#ifndef VARVE_TESTS_CRASH_SIM_PARTS_H
#define VARVE_TESTS_CRASH_SIM_PARTS_H

#include "store/lsm/engine.h"
#include "store/store.h"
#include "tests/crash/model.h"
#include "tests/crash/sim.h"
#include "tests/support/pattern.h"
#include "tests/support/random.h"
#include "tests/support/vfs_mem.h"

#define SIM_VALUE_MAX   80000u
#define SIM_BATCH_MAX   6u
#define SIM_PENDING_MAX 64u
#define SIM_SCANS       3u
#define SIM_PINS        3u

enum sim_condition { SIM_ALWAYS, SIM_IF_ABSENT, SIM_IF_PRESENT, SIM_IF_VERSION };

/* What a write is to do. */
struct sim_plan {
    unsigned n;
    struct sim_op {
        unsigned key;
        bool is_delete;
        uint64_t size; /* of a put's value, from PATTERN_VERSION_BYTES */
    } ops[SIM_BATCH_MAX];
    enum sim_condition condition; /* of one operation, by its index */
    unsigned conditional;
    bool stale;   /* SIM_IF_VERSION: of a version that isn't the newest */
    bool resized; /* the last put is begun at another size */
};

enum sim_phase { SIM_FREE, SIM_WAITING, SIM_ADMITTED, SIM_COMMITTED };

/* One write from its issue to its completion. */
struct sim_pending {
    struct sim *sim;
    enum sim_phase phase;
    struct store_write *write; /* while SIM_ADMITTED */
    struct sim_plan plan;
    uint64_t expected;                /* number, of SIM_IF_VERSION */
    uint64_t versions[SIM_BATCH_MAX]; /* of the values */
    /* As the model decides, at the moment when the store does. */
    bool fails, changes;
    struct model_value met[SIM_BATCH_MAX];
    size_t seen;                     /* the prefix that has all it looked at */
    size_t prefix;                   /* that ends with it, if it changes anything… */
    uint64_t numbers[SIM_BATCH_MAX]; /* …with these numbers; 0: makes no record */
};

struct sim_scan {
    struct sim *sim;
    struct store_scan *scan; /* NULL: none */
    struct model_state state;
    bool reverse, keys_only;
    unsigned from, to; /* ranks of keys: [from, to) is still to come */
    unsigned left;     /* entries to be shown now */
    bool at_end;
};

struct sim_pin {
    bool in_use;
    unsigned key;
    struct model_value value;
    struct store_entry entry;
};

/* From operation `at` on, the operations of the set fail in `percent` of the cases, up to `times`.
 */
struct sim_fault {
    uint64_t at, times;
    unsigned ops, percent;
    bool fills; /* from then on there is no space either */
    struct vfs_mem_verdict verdict;
};

struct sim {
    const struct sim_options *options;
    struct sim_result *result;
    struct prng random;
    struct vfs_mem *vfs;
    struct store *store; /* NULL: not open */
    struct model *model;
    uint64_t epoch; /* of the store, for ever */

    struct sim_pending pending[SIM_PENDING_MAX];
    struct sim_scan scans[SIM_SCANS];
    struct sim_pin pins[SIM_PINS];
    uint64_t requests;     /* for flushes and compactions that are not answered */
    bool stopped;          /* a write is between two of its moves… */
    unsigned stop_percent; /* …and how often that is so */
    uint64_t left_bytes; /* what was in memory and the log when power was lost takes as tables… */
    uint64_t left_number; /* …and the number of the manifest in force; 0: not known */
    uint64_t foretold;    /* the newest number, by a look at the files before they are opened */

    /* The disk. */
    uint64_t crash_at; /* operation before which power is lost; 0: none */
    enum vfs_mem_action crash_action;
    struct sim_fault fault;
    bool crashed;
    bool fills_up;     /* in this round there may be little space for a while… */
    bool filled;       /* …as now */
    char last_created; /* kind of the file created last: says what a directory sync is for */
    char last_failed[MEM_NAME_BYTES];
    bool scrubbing;    /* what happens is a step of the scrubber's… */
    bool scrub_failed; /* …an operation of which failed… */
    bool last_fails;   /* …and so did the one that came last */

    /* Since the store was opened, or its opening began. */
    bool io_failed;     /* an operation failed with an I/O error */
    bool space_failed;  /* …or for want of space; or there was little of it */
    bool fits;          /* …but enough to open: sim_disk_fill_to_open() */
    bool dir_uncertain; /* …a sync of the directory: its names are in doubt until power is lost */
    bool poisoned, manifest_failed;
    char poisoned_segment[MEM_NAME_BYTES];
    bool ending, abandoned; /* it is being closed, or goes as in a crash */
};

/* sim.c */
void sim_violate(struct sim *sim, const char *format, ...) PRINTF_LIKE(2, 3);
/* Adds to the hash of what happened. */
void sim_note(struct sim *sim, uint64_t n);
struct sim *sim_new(const struct sim_options *options, struct sim_result *result);
void sim_free(struct sim *sim);
/* Closes and opens again, with power lost in between where it must be. */
void sim_restart(struct sim *sim, bool calm);
/* Random steps of the workload while a write is stopped. */
void sim_act_while_stopped(struct sim *sim);

/* sim_disk.c */
void sim_disk_new(struct sim *sim);
/* While trusted, it does what it is asked for: for a look at the files that is no part of the
 * story. */
void sim_disk_trust(struct sim *sim, bool trust);
/* Power is lost before one of the next `within` operations. */
void sim_disk_plan_crash(struct sim *sim, uint64_t within);
/* A random way to fail, from one of the next `within` operations on. */
void sim_disk_plan_fault(struct sim *sim, uint64_t within);
/* All that is left is `bytes`. */
void sim_disk_fill(struct sim *sim, uint64_t bytes);
/* All that is left is what an opening may need: room for a manifest and for the tables of what was
 * in memory, less what it can remove, files that the manifest doesn't name and the ballast, which
 * may be gone. False: the manifest isn't the one of when power was lost. */
bool sim_disk_fill_to_open(struct sim *sim);
/* Nothing fails any more. */
void sim_disk_heal(struct sim *sim);
/* Replaces the disk by what a crash leaves of it. */
void sim_disk_after_crash(struct sim *sim, enum mem_keep keep);

/* sim_write.c */
struct bytes sim_key(unsigned key);
/* Asks for admission; false if too many writes are under way. */
bool sim_write(struct sim *sim, const struct sim_plan *plan);
/* Commits those that were admitted. */
void sim_commit_admitted(struct sim *sim);
/* Gives up those that were admitted and not committed. */
void sim_abort_admitted(struct sim *sim);
/* Whether any write is not answered yet. */
bool sim_writes_are_pending(const struct sim *sim);
/* For struct store. */
void sim_on_stop(struct store_write *write, enum engine_stop at);

/* sim_read.c */
/* Looks a key up and compares it with what is durable; maybe keeps the entry. */
void sim_get(struct sim *sim, unsigned key, bool keep);
void sim_release_pin(struct sim *sim, struct sim_pin *pin);
/* Opens a scan over the keys of ranks [from, to). */
void sim_scan_open(struct sim *sim, struct sim_scan *scan, unsigned from, unsigned to, bool reverse,
                   bool keys_only);
/* Walks on over at most `n` entries. */
void sim_scan_walk(struct sim_scan *scan, unsigned n);
void sim_scan_close(struct sim_scan *scan);
/* Releases all that is held of the store. */
void sim_let_go(struct sim *sim);
/* All keys, by lookups and by a scan, which must agree. */
void sim_read_all(struct sim *sim, struct model_state *ret_state);

/* sim_scrub.c */
/* A step of the scrubber, after which what failed must have been told, and nothing else. False at
 * the end of a pass. */
bool sim_scrub(struct sim *sim);

/* sim_open.c */
/* Opens what is there, as it is. */
enum err sim_open(struct sim *sim);
/* The store goes as in a crash, and the disk with it. */
void sim_lose_power(struct sim *sim, enum mem_keep keep);
/* Closes; false if power was lost, or must be before anything else is done. */
bool sim_close(struct sim *sim);
/* Opens whatever a crash or a close left until that succeeds, and compares it with the model. It
 * fails and crashes as planned, and unless `calm` as the dice say. */
void sim_recover(struct sim *sim, bool calm);
/* Goes as in a kill and opens again: nothing may change, and all files must be in order. */
void sim_recover_again(struct sim *sim);
/* Heals the disk and drives everything to its end, which must come. */
void sim_settle(struct sim *sim);
/* Asks for a flush or a compaction. */
void sim_request(struct sim *sim, bool compact);
/* Read-only if and only if log or manifest failed. */
void sim_check_state(struct sim *sim);

#endif
