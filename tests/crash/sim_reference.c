/* One fixed workload, in which each file operation in turn goes wrong. */
#include "tests/crash/sim_parts.h"

#define REFERENCE_SEED 1u /* of the few dice in it */

static bool goes_on(const struct sim *sim)
{
    return sim->store && !sim->crashed && !sim->result->violated;
}

/* Some steps of everything; what fails is tried again in vain. */
static void drive(struct sim *sim, unsigned steps)
{
    for (unsigned i = 0; i < steps && goes_on(sim); i++) {
        sim_commit_admitted(sim);
        bool more = engine_log_step(sim->store);
        more = engine_flush_step(sim->store) || more;
        more = engine_compaction_step(sim->store) || more;
        more = engine_reclaim_step(sim->store) || more;
        sim_check_state(sim);
        if (!more) {
            return;
        }
    }
}

static void write_one(struct sim *sim, unsigned key, uint64_t size, enum sim_condition condition)
{
    if (goes_on(sim)) {
        struct sim_plan plan = {
            .n = 1, .ops = {{key, size == 0, size}}, .condition = condition, .resized = key == 5};
        sim_write(sim, &plan);
        sim_commit_admitted(sim);
    }
}

static void write_batch(struct sim *sim, unsigned key)
{
    if (goes_on(sim)) {
        struct sim_plan plan = {
            .n = 4,
            .ops = {{key, false, 500}, {key + 1, true, 0}, {key + 2, false, 20}, {0, true, 0}}};
        sim_write(sim, &plan);
        sim_commit_admitted(sim);
    }
}

static void check_keys(struct sim *sim)
{
    for (unsigned key = 0; key < MODEL_KEYS && goes_on(sim); key++) {
        sim_get(sim, key, key == 7);
    }
}

/* The first table; what conditions meet. */
static void begin_small(struct sim *sim)
{
    for (unsigned key = 0; key < MODEL_KEYS; key++) {
        write_one(sim, key, 8 + 40 * key, SIM_ALWAYS);
        if (key % 8 == 7) {
            drive(sim, 1);
        }
    }
    write_batch(sim, 3);
    write_one(sim, 1, 0, SIM_ALWAYS);
    write_one(sim, 2, 100, SIM_IF_ABSENT);
    write_one(sim, 2, 100, SIM_IF_VERSION);
    if (goes_on(sim)) {
        sim_request(sim, false);
    }
    drive(sim, 20);
    check_keys(sim);
}

/* Rotations by size, with a scan open over them and writes that are stopped. */
static void grow(struct sim *sim)
{
    if (goes_on(sim)) {
        sim_scan_open(sim, &sim->scans[0], 2, MODEL_KEYS - 2, true, false);
    }
    for (unsigned i = 0; i < 4; i++) {
        write_one(sim, 6 + i, 30000, SIM_ALWAYS);
        drive(sim, 1);
    }
    sim->stop_percent = 100;
    write_one(sim, 11, 200, SIM_IF_PRESENT);
    write_batch(sim, 12);
    sim->stop_percent = 0;
    drive(sim, 10);
    if (goes_on(sim)) {
        sim_scan_walk(&sim->scans[0], 5);
    }
    check_keys(sim);
}

/* Begins while all tables are as they were flushed, and goes on behind their merging. */
static void scrub(struct sim *sim, unsigned steps)
{
    while (steps-- > 0 && goes_on(sim) && sim_scrub(sim)) {
    }
}

static void shrink(struct sim *sim)
{
    for (unsigned key = 0; key < MODEL_KEYS; key += 2) {
        write_one(sim, key, 0, SIM_ALWAYS);
    }
    if (goes_on(sim)) {
        sim_request(sim, true);
    }
    scrub(sim, 3);
    drive(sim, 60);
    scrub(sim, 100);
    check_keys(sim);
}

static void reference(struct sim *sim)
{
    begin_small(sim);
    grow(sim);
    shrink(sim);
    if (goes_on(sim)) {
        sim_restart(sim, true);
    }
    write_one(sim, 4, 70000, SIM_ALWAYS);
    write_one(sim, 5, 50, SIM_ALWAYS);
    drive(sim, 5);
    if (goes_on(sim)) {
        engine_log_idle_step(sim->store);
    }
    check_keys(sim);
}

static void plan(struct sim *sim, enum sim_mishap mishap, uint64_t nth)
{
    bool full = mishap == SIM_ENOSPC;
    if (nth == 0) {
        return;
    }
    if (mishap == SIM_KILLED || mishap == SIM_TORN) {
        sim->crash_at = nth;
        sim->crash_action = mishap == SIM_KILLED ? VFS_MEM_CRASH : VFS_MEM_CRASH_PARTLY;
        return;
    }
    sim->fault = (struct sim_fault){
        .at = nth,
        .times = mishap == SIM_EIO_FOREVER ? UINT64_MAX : 1,
        .ops = full ? VFS_MEM_CHANGES : VFS_MEM_ANY,
        .percent = 100,
        .fills = full,
        .verdict = {.action = mishap == SIM_SHORT ? VFS_MEM_FAIL_PARTLY : VFS_MEM_FAIL,
                    .err = full ? ERR_NO_SPACE : ERR_IO}};
}

bool sim_mishap_at(uint64_t seed, enum sim_mishap mishap, uint64_t nth,
                   struct sim_result *ret_result)
{
    struct sim_options options = {.seed = REFERENCE_SEED};
    struct sim *sim = sim_new(&options, ret_result);
    plan(sim, mishap, nth);
    sim_recover(sim, true);
    if (!ret_result->violated) {
        reference(sim);
    }
    bool met = ret_result->failed_operations + ret_result->crashes_in_recovery > 0 || sim->crashed;
    prng_init(&sim->random, seed); /* of what a crash leaves */
    if (!ret_result->violated) {
        sim_lose_power(sim, prng_chance(&sim->random, 30) ? MEM_KEEP_NOTHING : MEM_KEEP_RANDOM);
        sim_recover(sim, true);
    }
    if (!ret_result->violated) {
        sim_recover_again(sim);
    }
    if (!ret_result->violated) {
        write_one(sim, 1, 100, SIM_ALWAYS);
        sim_settle(sim);
    }
    sim_free(sim);
    return met;
}
