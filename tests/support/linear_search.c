/* linear_search.c - depth first over configurations, which are kept in a hash table. */
#include "tests/support/linear_search.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/alloc.h"
#include "tests/support/random.h"

struct configuration {
    uint64_t placed;                  /* a bit for each slot whose operation has its place */
    uint64_t at;                      /* event: the end of an operation that has no place yet */
    uint16_t holds[LINEAR_KEYS_MAX];  /* value; 0: nothing */
    uint16_t owner[LINEAR_FREE_TAGS]; /* value that was found to have the tag; 0: not yet */
};

/* An operation's call or end. */
struct event {
    uint64_t moment;
    size_t op;
    bool is_end;
    size_t first_open, n_open; /* of an end: who is under way, in search.open */
};

struct search {
    struct linear_op *ops; /* whose tags are places in `tags` */
    size_t n_ops;
    const struct linear_tags *tags;
    size_t *free_slots; /* in configuration.owner, of the tags here that no answer explains */

    struct event *events;
    size_t n_events;
    unsigned char *slots; /* of an operation while it is under way */
    size_t *open;
    size_t n_open;

    struct configuration *seen;
    uint32_t *stack; /* of those seen, who wasn't looked at yet */
    size_t n_seen, n_stack, capacity;
    uint32_t *table; /* of hashes: place in `seen`, from 1 */
    uint64_t furthest;
};

/* Replaces tags by their places, and gives a slot to those that the search is to explain. */
static void place_tags(struct search *search)
{
    bool *has_slot = test_alloc((search->tags->n_tags + 1) * sizeof *has_slot);
    size_t n_free = 0;
    search->free_slots = test_alloc((search->tags->n_tags + 1) * sizeof *search->free_slots);
    for (size_t i = 0; i < search->n_ops; i++) {
        for (size_t j = 0; j < search->ops[i].n_steps; j++) {
            struct linear_step *step = &search->ops[i].steps[j];
            assert(step->key < LINEAR_KEYS_MAX && step->value <= UINT16_MAX);
            step->tag = linear_tags_find(search->tags, step->tag);
            step->met_tag = linear_tags_find(search->tags, step->met_tag);
            size_t place = step->met_tag;
            if (place != 0 && search->tags->tags[place].value == 0 && !has_slot[place]) {
                assert(n_free < LINEAR_FREE_TAGS && "too many tags that no answer explains");
                search->free_slots[place] = n_free++;
                has_slot[place] = true;
            }
        }
    }
    free(has_slot);
}

/* --- Moments --- */

static int compare_events(const void *a, const void *b)
{
    const struct event *left = a, *right = b;
    return left->moment < right->moment ? -1 : left->moment > right->moment;
}

static void list_events(struct search *search)
{
    search->events = test_alloc(2 * search->n_ops * sizeof *search->events);
    for (size_t i = 0; i < search->n_ops; i++) {
        const struct linear_op *op = &search->ops[i];
        search->events[search->n_events++] = (struct event){.moment = op->call, .op = i};
        if (op->end != LINEAR_NEVER) {
            search->events[search->n_events++] =
                (struct event){.moment = op->end, .op = i, .is_end = true};
        }
    }
    qsort(search->events, search->n_events, sizeof *search->events, compare_events);
}

/* Gives each operation a slot from its call to its end, and each end the list of who is under way.
 */
static void give_slots(struct search *search)
{
    size_t at_slot[LINEAR_OPEN_MAX];
    uint64_t taken = 0;
    search->slots = test_alloc(search->n_ops);
    search->open = test_alloc(search->n_events * LINEAR_OPEN_MAX * sizeof *search->open);
    for (size_t i = 0; i < search->n_events; i++) {
        struct event *event = &search->events[i];
        if (!event->is_end) {
            assert(taken != UINT64_MAX && "too many operations under way");
            unsigned slot = (unsigned)__builtin_ctzll(~taken);
            taken |= UINT64_C(1) << slot;
            search->slots[event->op] = (unsigned char)slot;
            at_slot[slot] = event->op;
            continue;
        }
        event->first_open = search->n_open;
        for (unsigned slot = 0; slot < LINEAR_OPEN_MAX; slot++) {
            if ((taken >> slot & 1) != 0) {
                search->open[search->n_open++] = at_slot[slot];
            }
        }
        event->n_open = search->n_open - event->first_open;
        taken &= ~(UINT64_C(1) << search->slots[event->op]);
    }
}

static uint64_t slot_bit(const struct search *search, size_t op)
{
    return UINT64_C(1) << search->slots[op];
}

/* --- One operation --- */

enum fit { NO, YES, COULD /* if that is whose the tag is */ };

static enum fit has_tag(const struct search *search, const struct configuration *c, unsigned key,
                        uint64_t place)
{
    const struct linear_tag *tag = &search->tags->tags[place];
    uint16_t held = c->holds[key];
    if (held == 0 || place == 0 || tag->key != key) {
        return NO;
    }
    if (tag->value != 0) {
        return tag->value == held ? YES : NO;
    }
    uint16_t owner = c->owner[search->free_slots[place]];
    if (owner != 0) {
        return owner == held ? YES : NO;
    }
    bool has_another = search->tags->of_value[held] != 0;
    for (size_t i = 0; i < LINEAR_FREE_TAGS; i++) {
        has_another = has_another || c->owner[i] == held;
    }
    return has_another ? NO : COULD;
}

/* The same, and if it could be, it is from now on. */
static bool take_tag(const struct search *search, struct configuration *c, unsigned key,
                     uint64_t place)
{
    enum fit fit = has_tag(search, c, key, place);
    if (fit == COULD) {
        c->owner[search->free_slots[place]] = c->holds[key];
    }
    return fit != NO;
}

static bool met_fits(const struct search *search, struct configuration *c,
                     const struct linear_step *step)
{
    uint16_t held = c->holds[step->key];
    if (step->met == LINEAR_NOT_TOLD) {
        return true;
    }
    if ((step->met == LINEAR_PRESENT) != (held != 0) ||
        (step->met_value != 0 && step->met_value != held)) {
        return false;
    }
    return step->met_tag == 0 || take_tag(search, c, step->key, step->met_tag);
}

static enum fit holds_condition(const struct search *search, const struct configuration *c,
                                const struct linear_step *step)
{
    uint16_t held = c->holds[step->key];
    switch (step->condition) {
    case LINEAR_ALWAYS:
        return YES;
    case LINEAR_IF_ABSENT:
        return held == 0 ? YES : NO;
    case LINEAR_IF_PRESENT:
        return held != 0 ? YES : NO;
    case LINEAR_IF_MATCH:
        return has_tag(search, c, step->key, step->tag);
    }
    abort();
}

/* The operation happens now. False, and the configuration is worthless, if it can't. */
static bool happen(const struct search *search, struct configuration *c, const struct linear_op *op)
{
    for (size_t i = 0; i < op->n_steps; i++) {
        if (!met_fits(search, c, &op->steps[i])) {
            return false;
        }
    }
    if (op->outcome == LINEAR_FAILED) {
        return holds_condition(search, c, &op->steps[op->failed]) != YES;
    }
    for (size_t i = 0; i < op->n_steps; i++) {
        const struct linear_step *step = &op->steps[i];
        if (step->condition == LINEAR_IF_MATCH ? !take_tag(search, c, step->key, step->tag)
                                               : holds_condition(search, c, step) != YES) {
            return false;
        }
    }
    for (size_t i = 0; i < op->n_steps; i++) {
        if (op->steps[i].effect != LINEAR_READ) {
            c->holds[op->steps[i].key] = (uint16_t)op->steps[i].value; /* of a delete 0 */
        }
    }
    return true;
}

/* --- Configurations --- */

/* An answered operation that fits and changes nothing may as well be placed at once: whatever comes
 * later doesn't depend on it. */
static void place_idle(const struct search *search, struct configuration *c,
                       const struct event *event)
{
    for (size_t i = 0; i < event->n_open; i++) {
        size_t op = search->open[event->first_open + i];
        struct configuration next = *c;
        if ((c->placed & slot_bit(search, op)) == 0 && search->ops[op].outcome != LINEAR_MAYBE &&
            happen(search, &next, &search->ops[op]) && memcmp(&next, c, sizeof next) == 0) {
            c->placed |= slot_bit(search, op);
        }
    }
}

/* Goes on to the next end of an operation without a place. False: there is none any more. */
static bool advance(const struct search *search, struct configuration *c)
{
    for (; c->at < search->n_events; c->at++) {
        const struct event *event = &search->events[c->at];
        if (!event->is_end) {
            continue;
        }
        uint64_t bit = slot_bit(search, event->op);
        if ((c->placed & bit) == 0) {
            place_idle(search, c, event);
        }
        if ((c->placed & bit) == 0) {
            return true;
        }
        c->placed &= ~bit;
    }
    return false;
}

static size_t hash(const struct configuration *c)
{
    uint64_t words[sizeof *c / sizeof(uint64_t)];
    uint64_t sum = 0;
    memcpy(words, c, sizeof words);
    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++) {
        sum = scramble64(sum ^ words[i]);
    }
    return (size_t)sum;
}

enum { TABLE_PER_SEEN = 2 }; /* slots of the hash table for each configuration there is room for */

static uint32_t *find_seen(const struct search *search, const struct configuration *c)
{
    size_t mask = TABLE_PER_SEEN * search->capacity - 1;
    for (size_t i = hash(c) & mask;; i = (i + 1) & mask) {
        uint32_t place = search->table[i];
        if (place == 0 || memcmp(&search->seen[place - 1], c, sizeof *c) == 0) {
            return &search->table[i];
        }
    }
}

static void grow(struct search *search)
{
    size_t old = search->capacity;
    search->capacity = old == 0 ? 1024 : 2 * old;
    search->seen = test_grow(search->seen, old * sizeof *search->seen,
                             search->capacity * sizeof *search->seen);
    search->stack = test_grow(search->stack, old * sizeof *search->stack,
                              search->capacity * sizeof *search->stack);
    free(search->table);
    search->table = test_alloc(TABLE_PER_SEEN * search->capacity * sizeof *search->table);
    for (size_t i = 0; i < search->n_seen; i++) {
        *find_seen(search, &search->seen[i]) = (uint32_t)i + 1;
    }
}

/* Keeps a configuration for later, unless it was seen. False: it explains the whole history. */
static bool keep(struct search *search, struct configuration *c)
{
    if (!advance(search, c)) {
        return false;
    }
    if (search->n_seen == search->capacity) {
        grow(search);
    }
    uint32_t *place = find_seen(search, c);
    if (*place == 0) {
        search->stack[search->n_stack++] = (uint32_t)search->n_seen;
        search->seen[search->n_seen++] = *c;
        *place = (uint32_t)search->n_seen;
        search->furthest = c->at > search->furthest ? c->at : search->furthest;
    }
    return true;
}

/* Lets `op` be the next, if it can be. False: that explains the whole history. */
static bool try_next(struct search *search, const struct configuration *c, size_t op)
{
    struct configuration next = *c;
    if ((c->placed & slot_bit(search, op)) != 0 || !happen(search, &next, &search->ops[op])) {
        return true;
    }
    if (search->ops[op].outcome == LINEAR_MAYBE && memcmp(&next, c, sizeof next) == 0) {
        return true; /* as if it never happened */
    }
    next.placed |= slot_bit(search, op);
    return keep(search, &next);
}

/* Tries everything that may come next. False: one of it explains the whole history. */
static bool look_at(struct search *search, const struct configuration *c)
{
    const struct event *event = &search->events[c->at];
    for (size_t i = 0; i < event->n_open; i++) {
        size_t op = search->open[event->first_open + i];
        if (op != event->op && !try_next(search, c, op)) {
            return false;
        }
    }
    if (search->ops[event->op].outcome == LINEAR_MAYBE) {
        struct configuration next = *c;
        next.at++; /* it never happened */
        if (!keep(search, &next)) {
            return false;
        }
    }
    return try_next(search, c, event->op);
}

static enum linear_verdict explain(struct search *search, size_t *ret_stuck)
{
    struct configuration c = {0};
    bool unexplained = keep(search, &c);
    while (unexplained && search->n_stack > 0) {
        if (search->n_seen >= LINEAR_CONFIGURATIONS_MAX) {
            return LINEAR_TOO_HARD;
        }
        c = search->seen[search->stack[--search->n_stack]];
        unexplained = look_at(search, &c);
    }
    if (!unexplained) {
        return LINEAR_GOOD;
    }
    *ret_stuck = search->events[search->furthest].op;
    return LINEAR_BAD;
}

enum linear_verdict linear_search(const struct linear_op *ops, size_t n_ops,
                                  const struct linear_tags *tags, size_t *ret_stuck)
{
    struct search search = {.ops = test_alloc(n_ops * sizeof *ops), .n_ops = n_ops, .tags = tags};
    memcpy(search.ops, ops, n_ops * sizeof *ops);
    place_tags(&search);
    list_events(&search);
    give_slots(&search);
    enum linear_verdict verdict = explain(&search, ret_stuck);
    free(search.ops);
    free(search.free_slots);
    free(search.events);
    free(search.slots);
    free(search.open);
    free(search.seen);
    free(search.stack);
    free(search.table);
    return verdict;
}
