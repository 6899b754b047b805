/*
 * sim.h - crashes of a simulated machine, thousands a minute: the engine without threads on files
 * in memory, driven in a seeded order.
 *
 * Each round runs a random workload (puts, deletes, batches, conditional writes, gets, scans,
 * flushes, compactions, clean restarts) and loses power before a random file operation. What wasn't
 * synced is kept in part, chosen by the seed. Then the store is opened again, maybe crashing on the
 * way, and must hold the state of one prefix of the issued writes that has every acknowledged and
 * every shown one (model.h). The next round goes on from there.
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

struct sim_options {
    uint64_t seed;
    unsigned rounds;
    enum sim_omission omission;
};

struct sim_result {
    uint64_t crashes, crashes_in_recovery, clean_restarts;
    uint64_t writes, gets, scans, failed_conditions;
    uint64_t flushes, compactions, rotations, torn_tails;
    uint64_t omitted;     /* syncs that were left out */
    bool violated;        /* and if so, … */
    unsigned round;       /* …in this round… */
    char violation[1024]; /* …and how */
};

const char *sim_omission_name(enum sim_omission omission);

/* Runs until all rounds are done or a promise is broken. */
void sim_run(const struct sim_options *options, struct sim_result *ret_result);

#endif
