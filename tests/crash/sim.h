/*
 * sim.h - crashes and failing disks of a simulated machine, thousands a minute: the engine without
 * threads on files in memory, driven in a seeded order, beside a model of what it must hold.
 *
 * Each round runs a random workload: puts, deletes, batches, conditions, gets whose entries stay
 * pinned, scans that stay open over later writes, flushes, compactions, scrubbing, restarts, and
 * writes that are stopped between their moves (engine.h: on_stop) while everything else goes on.
 * The disk may fail at any operation, once, for ever or now and then, write a part, or be full for
 * a while. The round ends with a power failure before a random operation, a kill, or a close. What
 * wasn't synced is kept in part, chosen by the seed. Then the store is opened again, maybe failing
 * or crashing on the way, and must be what the model allows (model.h); the next round goes on from
 * there.
 *
 * Everything is told apart by its order alone: an operation that takes long is the same as steps of
 * others before it, which the dice bring about. So nothing here blocks or sleeps.
 *
 * A run is a function of its options: a seed repeats a violation, and the hash of all that happened
 * is the same each time.
 *
 * Threads:   one.
 * Ownership: plain values.
 * Errors:    a violation is a result, in words.
 */
#ifndef VARVE_TESTS_CRASH_SIM_H
#define VARVE_TESTS_CRASH_SIM_H

#include <stdbool.h>
#include <stdint.h>

/* File operations that can be left out, to show that the simulation notices. */
enum sim_omission {
    SIM_OMIT_NOTHING,
    SIM_OMIT_LOG_SYNC,     /* of frames */
    SIM_OMIT_SEGMENT_SYNC, /* of a new segment's contents */
    SIM_OMIT_TABLE_SYNC,
    SIM_OMIT_MANIFEST_SYNC,
    SIM_OMIT_SEGMENT_DIR_SYNC,  /* after creating a segment */
    SIM_OMIT_TABLE_DIR_SYNC,    /* after writing a table */
    SIM_OMIT_MANIFEST_DIR_SYNC, /* after the rename */
    SIM_OMISSIONS,
};

/* What happens to the disk at one operation of the reference workload. */
enum sim_mishap {
    SIM_KILLED,      /* the machine is gone before it */
    SIM_TORN,        /* the machine is gone in the middle of it */
    SIM_EIO,         /* it fails */
    SIM_EIO_FOREVER, /* it and all that follow fail, until the store is opened again */
    SIM_ENOSPC,      /* it fails, and so does what needs space, until the workload is done */
    SIM_SHORT,       /* a part of it happens, then it fails */
    SIM_MISHAPS,
};

struct sim_options {
    uint64_t seed;
    unsigned rounds;
    enum sim_omission omission; /* with one, disks don't fail, so that nothing else is seen */
};

struct sim_result {
    uint64_t crashes, crashes_in_recovery, kills, closes, restarts;
    uint64_t failed_operations, failed_openings, full_disks, poisoned_logs, failed_manifests;
    uint64_t writes, stops, rotations_in_stops, crashes_in_stops, failed_conditions, refusals;
    uint64_t unknown_outcomes, gets, scans;
    uint64_t flushes, compactions, rotations, torn_tails, checks;
    uint64_t scrub_passes, scrub_failures, scrub_reports; /* failed operations; damage told */
    uint64_t full_openings; /* on a disk that has just the room that is promised to be enough */
    uint64_t operations;    /* of files, in the last life of the machine */
    uint64_t omitted;       /* syncs that were left out */
    uint64_t hash;          /* of all that happened */
    bool violated;          /* and if so, … */
    unsigned round;         /* …in this round… */
    char violation[1024];   /* …and how */
};

const char *sim_omission_name(enum sim_omission omission);
const char *sim_mishap_name(enum sim_mishap mishap);

/* Runs until all rounds are done or a promise is broken. */
void sim_run(const struct sim_options *options, struct sim_result *ret_result);

/* The reference workload, the same each time, with `mishap` at operation `nth` (from 1; 0: never);
 * then recovery. Returns whether it came to that operation. */
bool sim_mishap_at(uint64_t seed, enum sim_mishap mishap, uint64_t nth,
                   struct sim_result *ret_result);

#endif
