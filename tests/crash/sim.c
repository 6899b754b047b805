/* The workload, and the rounds that it is cut into. */
#include "tests/crash/sim.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/crash/sim_parts.h"

#define STOPPED_ACTS 40u   /* at most, while a write is stopped */
#define ROUND_ACTS   2000u /* at most, while waiting for the crash */
#define CALM_ACTS    200u  /* at most, of a round that ends otherwise */

void sim_violate(struct sim *sim, const char *format, ...)
{
    if (sim->result->violated) {
        return;
    }
    sim->result->violated = true;
    va_list args;
    va_start(args, format);
    vsnprintf(sim->result->violation, sizeof sim->result->violation, format, args);
    va_end(args);
}

void sim_note(struct sim *sim, uint64_t n)
{
    sim->result->hash = scramble64(sim->result->hash ^ n);
}

struct sim *sim_new(const struct sim_options *options, struct sim_result *result)
{
    struct sim *sim = calloc(1, sizeof *sim);
    assert(sim);
    rcu_door_set_manual(true);
    memset(result, 0, sizeof *result);
    sim->options = options;
    sim->result = result;
    prng_init(&sim->random, options->seed);
    sim->model = model_new();
    sim_disk_new(sim);
    return sim;
}

/* The disk's end finds what was left open. */
void sim_free(struct sim *sim)
{
    sim_lose_power(sim, MEM_KEEP_ALL);
    vfs_mem_free(sim->vfs);
    model_free(sim->model);
    free(sim);
    rcu_door_set_manual(false);
}

/* --- The workload --- */

static uint64_t random_size(struct sim *sim)
{
    if (prng_chance(&sim->random, 2)) {
        return PATTERN_VERSION_BYTES +
               prng_below(&sim->random, SIM_VALUE_MAX - PATTERN_VERSION_BYTES);
    }
    return PATTERN_VERSION_BYTES +
           prng_below(&sim->random, prng_chance(&sim->random, 20) ? 9000 : 300);
}

static void write_something(struct sim *sim)
{
    struct prng *random = &sim->random;
    struct sim_plan plan = {
        .n = prng_chance(random, 15) ? 2 + (unsigned)prng_below(random, SIM_BATCH_MAX - 1) : 1,
        .stale = prng_chance(random, 30),
        .resized = prng_chance(random, 10)};
    unsigned first = (unsigned)prng_below(random, MODEL_KEYS);
    unsigned deletes_percent = prng_chance(random, 20) ? 100 : 15;
    for (unsigned i = 0; i < plan.n; i++) {
        plan.ops[i].key = (first + i * 7) % MODEL_KEYS;
        plan.ops[i].is_delete = prng_chance(random, deletes_percent);
        plan.ops[i].size = plan.ops[i].is_delete ? 0 : random_size(sim);
    }
    if (prng_chance(random, 25)) {
        plan.condition = SIM_IF_ABSENT + (unsigned)prng_below(random, 3);
        plan.conditional = (unsigned)prng_below(random, plan.n);
    }
    sim_write(sim, &plan);
}

/* Opens a scan, goes on with it or closes it. */
static void scan_something(struct sim *sim)
{
    struct prng *random = &sim->random;
    struct sim_scan *scan = &sim->scans[prng_below(random, SIM_SCANS)];
    if (!scan->scan) {
        unsigned from = prng_chance(random, 50) ? 0 : (unsigned)prng_below(random, MODEL_KEYS);
        unsigned to = prng_chance(random, 50)
                          ? MODEL_KEYS
                          : from + (unsigned)prng_below(random, MODEL_KEYS - from + 1);
        sim_scan_open(sim, scan, from, to, prng_chance(random, 50), prng_chance(random, 30));
    } else if (scan->at_end) {
        sim_scan_close(scan);
    } else {
        sim_scan_walk(scan, 1 + (unsigned)prng_below(random, 8));
    }
}

/* Seldom a pass, often a part of a table. */
static void scrub_some(struct sim *sim)
{
    uint64_t steps = UINT64_C(1) << prng_below(&sim->random, 5);
    while (steps-- > 0 && sim_scrub(sim) && !sim->crashed) {
    }
}

void sim_restart(struct sim *sim, bool calm)
{
    if (!sim_close(sim)) {
        sim_lose_power(sim, MEM_KEEP_RANDOM);
    }
    if (!sim->result->violated) {
        sim_recover(sim, calm);
    }
}

/* What can't happen while a write is stopped, or seldom does. */
static void act_seldom(struct sim *sim)
{
    switch (prng_below(&sim->random, 10)) {
    case 0:
        sim->crash_at = 0;
        sim_disk_heal(sim);
        sim->result->restarts++;
        sim_restart(sim, false);
        sim_disk_plan_crash(sim, 200);
        break;
    case 1:
        sim_settle(sim);
        break;
    case 2:
        sim_abort_admitted(sim);
        break;
    default:
        if (sim->fills_up) {
            sim_disk_fill(sim, prng_below(&sim->random, 1 << prng_below(&sim->random, 21)));
        }
        break;
    }
}

/* A slow operation is one before which others come: the dice see to it. */
static void act(struct sim *sim)
{
    struct prng *random = &sim->random;
    uint64_t dice = prng_below(random, 1000);
    if (dice < 400) {
        write_something(sim);
    } else if (dice < 420) {
        scrub_some(sim);
    } else if (dice < 510) {
        sim_get(sim, (unsigned)prng_below(random, MODEL_KEYS), prng_chance(random, 20));
    } else if (dice < 525) {
        sim_release_pin(sim, &sim->pins[prng_below(random, SIM_PINS)]);
    } else if (dice < 550) {
        scan_something(sim);
    } else if (dice < 760) {
        engine_log_step(sim->store);
    } else if (dice < 770) {
        engine_log_idle_step(sim->store);
    } else if (dice < 850) {
        engine_flush_step(sim->store);
    } else if (dice < 910) {
        engine_compaction_step(sim->store);
    } else if (dice < 970) {
        if (!rcu_door_is_locked()) { /* a stopped write holds up what RCU frees */
            engine_reclaim_step(sim->store);
        }
    } else if (dice < 980) {
        sim_request(sim, dice >= 977);
    } else if (!sim->stopped) {
        act_seldom(sim);
    }
    if (sim->store && !sim->crashed) {
        sim_check_state(sim);
        sim_commit_admitted(sim);
    }
}

void sim_act_while_stopped(struct sim *sim)
{
    uint64_t rotations = atomic_load(&sim->store->counters.rotations);
    uint64_t n = 1 + prng_below(&sim->random, STOPPED_ACTS);
    while (n-- > 0 && !sim->crashed && !sim->result->violated) {
        act(sim);
    }
    sim->result->rotations_in_stops += atomic_load(&sim->store->counters.rotations) - rotations;
}

/* --- Rounds --- */

/* How a round ends if no crash came: power fails between two operations, a kill, or a close. */
static void end_otherwise(struct sim *sim)
{
    sim->crash_at = 0;
    if (prng_chance(&sim->random, 50)) {
        sim_settle(sim);
    }
    switch (prng_below(&sim->random, 3)) {
    case 0:
        sim->result->crashes++;
        sim_lose_power(sim, MEM_KEEP_RANDOM);
        break;
    case 1:
        sim->result->kills++;
        sim_lose_power(sim, MEM_KEEP_ALL);
        break;
    default:
        sim->result->closes++;
        if (!sim_close(sim)) {
            sim_lose_power(sim, MEM_KEEP_RANDOM);
        }
        sim_disk_heal(sim);
        break;
    }
}

static void run_round(struct sim *sim)
{
    bool healthy = sim->options->omission != SIM_OMIT_NOTHING;
    bool crashes = prng_chance(&sim->random, healthy ? 100 : 80);
    uint64_t acts = crashes ? ROUND_ACTS : 1 + prng_below(&sim->random, CALM_ACTS);
    if (crashes) {
        sim_disk_plan_crash(sim, 1 + (1u << prng_below(&sim->random, 10)));
    }
    if (!healthy && prng_chance(&sim->random, 30)) {
        sim_disk_plan_fault(sim, 1 + (1u << prng_below(&sim->random, 9)));
    }
    sim->fills_up = !healthy && prng_chance(&sim->random, 20);
    while (acts-- > 0 && !sim->crashed && !sim->result->violated) {
        act(sim);
    }
    if (sim->result->violated) {
        return;
    }
    if (sim->crashed) {
        sim->result->crashes++;
        sim_lose_power(sim, prng_chance(&sim->random, 20) ? MEM_KEEP_NOTHING : MEM_KEEP_RANDOM);
    } else {
        end_otherwise(sim);
    }
    if (!sim->result->violated) {
        sim_recover(sim, false);
    }
    if (!sim->result->violated && prng_chance(&sim->random, 20)) {
        sim_recover_again(sim);
    }
}

static void run(const struct sim_options *options, struct sim_result *result)
{
    struct sim *sim = sim_new(options, result);
    sim->stop_percent = 5;
    sim_recover(sim, true);
    for (; result->round < options->rounds && !result->violated; result->round++) {
        run_round(sim);
    }
    sim_free(sim);
}

/* In a process of its own: the heights of the skiplist's nodes, which count for a memtable's size,
 * are drawn from a state of the process. */
void sim_run(const struct sim_options *options, struct sim_result *ret_result)
{
    struct sim_result *shared =
        mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert(shared != MAP_FAILED);
    fflush(NULL); /* so that the child doesn't print it again */
    pid_t child = fork();
    assert(child >= 0);
    if (child == 0) {
        run(options, shared);
        exit(0); /* by way of LeakSanitizer, in its build */
    }
    int status;
    pid_t ended = waitpid(child, &status, 0);
    assert(ended == child);
    *ret_result = *shared;
    munmap(shared, sizeof *shared);
    if (status != 0 && !ret_result->violated) {
        ret_result->violated = true;
        snprintf(ret_result->violation, sizeof ret_result->violation,
                 "the process ended with status %d", status);
    }
}
