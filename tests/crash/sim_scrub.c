/* The scrubber: it tells what could not be read, and only that, and leaves the disk as it is. That
 * lookups go on in a table that it took for damaged is seen by the reads (sim_read.c). */
#include "tests/crash/sim_parts.h"

bool sim_scrub(struct sim *sim)
{
    struct scrubber *scrubber = &sim->store->scrubber;
    struct table *table = scrubber->table;
    bool obsolete = table && table_is_obsolete(table);

    sim->scrubbing = true;
    sim->scrub_failed = sim->last_fails = false;
    bool more = engine_scrub_step(sim->store);
    sim->scrubbing = false;
    sim->result->scrub_passes += !more;
    /* What it let go of is freed by later steps only. */
    if (sim->last_fails && !(table && !obsolete ? table_is_damaged(table) : scrubber->failed)) {
        sim_violate(sim, "the scrubber says nothing of an operation that failed");
    }
    return more;
}
