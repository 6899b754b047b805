/* The checker of histories against one that simply tries every order, on small random histories;
 * and on histories of the size that real tests have, made by a map that keeps its promises. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/check.h"
#include "tests/support/linear.h"
#include "tests/support/random.h"

#ifdef VARVE_SANITIZED
enum { SMALL_HISTORIES = 3000, LARGE_HISTORIES = 10 };
#else
enum { SMALL_HISTORIES = 20000, LARGE_HISTORIES = 60 };
#endif

enum {
    SMALL_OPS = 6,
    SMALL_KEYS = 2,
    SMALL_VALUES = SMALL_OPS * SMALL_KEYS,
    LARGE_OPS = 400,
    LARGE_KEYS = 4,
    CLIENTS = 6,
    VALUES_MAX = LARGE_OPS * LARGE_KEYS + 1,
    PLAYED_MAX = LARGE_OPS,
    MOMENTS_MAX = 4 * PLAYED_MAX,
};

/* --- A history with what the checker is told --- */

struct played {
    struct linear_op ops[PLAYED_MAX];
    size_t n_ops;
};

static void record(const struct played *played, struct linear_history *history)
{
    size_t numbers[PLAYED_MAX] = {0};
    for (uint64_t moment = 1; moment <= MOMENTS_MAX; moment++) {
        for (size_t i = 0; i < played->n_ops; i++) {
            const struct linear_op *op = &played->ops[i];
            if (op->call == moment) {
                numbers[i] = linear_call(history, op->client, op->steps, op->n_steps);
            } else if (op->end == moment && op->outcome == LINEAR_DONE) {
                linear_done(history, numbers[i], op->steps);
            } else if (op->end == moment && op->outcome == LINEAR_FAILED) {
                linear_failed(history, numbers[i], op->steps, op->failed);
            } else if (op->end == moment) {
                linear_down(history);
                break;
            }
        }
    }
}

/* --- The map --- */

struct map {
    uint32_t holds[LINEAR_KEYS_MAX];
    uint64_t tags[VALUES_MAX]; /* of values */
};

static bool holds_condition(const struct map *map, const struct linear_step *step)
{
    uint32_t held = map->holds[step->key];
    switch (step->condition) {
    case LINEAR_ALWAYS:
        return true;
    case LINEAR_IF_ABSENT:
        return held == 0;
    case LINEAR_IF_PRESENT:
        return held != 0;
    case LINEAR_IF_MATCH:
        return held != 0 && map->tags[held] == step->tag;
    }
    abort();
}

/* The operation takes effect now; its answer goes into it. */
static void perform(struct map *map, struct linear_op *op)
{
    op->outcome = LINEAR_DONE;
    for (size_t i = 0; i < op->n_steps; i++) {
        struct linear_step *step = &op->steps[i];
        uint32_t held = map->holds[step->key];
        step->met = held != 0 ? LINEAR_PRESENT : LINEAR_ABSENT;
        step->met_value = step->effect == LINEAR_READ ? held : 0;
        step->met_tag = held != 0 ? map->tags[held] : 0;
        if (op->outcome == LINEAR_DONE && !holds_condition(map, step)) {
            op->outcome = LINEAR_FAILED;
            op->failed = i;
        }
    }
    for (size_t i = 0; i < op->n_steps && op->outcome == LINEAR_DONE; i++) {
        struct linear_step *step = &op->steps[i];
        if (step->effect != LINEAR_READ) {
            map->holds[step->key] = step->value;
        }
        if (step->effect == LINEAR_PUT) {
            step->made_tag = map->tags[step->value];
        }
    }
}

static void lose_answer(struct linear_op *op)
{
    op->outcome = LINEAR_MAYBE;
    op->failed = 0;
    op->end = LINEAR_NEVER;
    for (size_t i = 0; i < op->n_steps; i++) {
        struct linear_step *step = &op->steps[i];
        step->met = LINEAR_NOT_TOLD;
        step->met_value = 0;
        step->met_tag = step->made_tag = 0;
    }
}

/* --- Random operations of a map --- */

struct scene {
    struct prng *prng;
    unsigned keys, clients, batch_percent, maybe_percent, down_percent;
    struct map map;
    uint32_t n_values;
    uint64_t now;
    uint64_t told[VALUES_MAX]; /* tags, in answers that have come */
    size_t n_told;
    struct {
        bool busy, took_effect;
        size_t op;
    } clients_at[CLIENTS];
};

/* Often the newest. */
static uint64_t draw_tag(struct scene *scene)
{
    size_t n = scene->n_told;
    if (n == 0) {
        return 1;
    }
    return scene->told[prng_chance(scene->prng, 70) ? n - 1 : prng_below(scene->prng, n)];
}

static void draw_op(struct scene *scene, struct linear_op *op)
{
    struct prng *prng = scene->prng;
    bool batch = prng_chance(prng, scene->batch_percent);
    op->n_steps = batch ? 1 + (size_t)prng_below(prng, scene->keys) : 1;
    unsigned first = (unsigned)prng_below(prng, scene->keys);
    for (size_t i = 0; i < op->n_steps; i++) {
        struct linear_step *step = &op->steps[i];
        *step = (struct linear_step){.key = (first + (unsigned)i) % scene->keys,
                                     .effect = (enum linear_effect)prng_below(prng, 3)};
        if (step->effect == LINEAR_PUT) {
            step->value = ++scene->n_values;
            scene->map.tags[step->value] = 1000 + step->value;
        }
        if (step->effect != LINEAR_READ) {
            step->condition = (enum linear_condition)prng_below(prng, 4);
        }
        if (step->condition == LINEAR_IF_MATCH) {
            step->tag = draw_tag(scene);
        }
    }
}

static void tell_tag(struct scene *scene, uint64_t tag)
{
    for (size_t i = 0; i < scene->n_told; i++) {
        if (scene->told[i] == tag) {
            return;
        }
    }
    if (tag != 0) {
        scene->told[scene->n_told++] = tag;
    }
}

/* The operation under way may have taken effect by now; its client doesn't hear of it. */
static void lose(struct scene *scene, unsigned client, struct linear_op *op)
{
    if (!scene->clients_at[client].took_effect && prng_chance(scene->prng, 50)) {
        perform(&scene->map, op);
    }
    lose_answer(op);
    scene->clients_at[client].busy = false;
}

static void go_down(struct scene *scene, struct played *played)
{
    scene->now++;
    for (unsigned i = 0; i < scene->clients; i++) {
        if (scene->clients_at[i].busy) {
            lose(scene, i, &played->ops[scene->clients_at[i].op]);
        }
    }
    for (size_t i = 0; i < played->n_ops; i++) {
        if (played->ops[i].end == LINEAR_NEVER) {
            played->ops[i].end = scene->now;
        }
    }
}

/* One client makes one move: calls, lets it take effect, or gets the answer. */
static void move(struct scene *scene, struct played *played, size_t n_ops)
{
    unsigned client = (unsigned)prng_below(scene->prng, scene->clients);
    if (prng_chance(scene->prng, scene->down_percent)) {
        go_down(scene, played);
        return;
    }
    if (!scene->clients_at[client].busy && played->n_ops < n_ops) {
        struct linear_op *op = &played->ops[played->n_ops];
        *op = (struct linear_op){.client = client, .call = ++scene->now};
        draw_op(scene, op);
        scene->clients_at[client].busy = true;
        scene->clients_at[client].took_effect = false;
        scene->clients_at[client].op = played->n_ops++;
        return;
    }
    struct linear_op *op = &played->ops[scene->clients_at[client].op];
    if (!scene->clients_at[client].busy) {
        return;
    }
    if (prng_chance(scene->prng, scene->maybe_percent)) {
        lose(scene, client, op);
        return;
    }
    if (!scene->clients_at[client].took_effect) {
        perform(&scene->map, op);
        scene->clients_at[client].took_effect = true;
        return;
    }
    op->end = ++scene->now;
    scene->clients_at[client].busy = false;
    for (size_t i = 0; i < op->n_steps; i++) {
        tell_tag(scene, op->steps[i].met_tag);
        tell_tag(scene, op->steps[i].made_tag);
    }
}

static void play(struct prng *prng, unsigned keys, unsigned maybe_percent, size_t n_ops,
                 struct played *played)
{
    struct scene scene = {.prng = prng,
                          .keys = keys,
                          .clients = 2 + (unsigned)prng_below(prng, CLIENTS - 1),
                          .batch_percent = prng_chance(prng, 50) ? 30 : 0,
                          .maybe_percent = maybe_percent,
                          .down_percent = prng_chance(prng, 50) ? maybe_percent / 2 : 0};
    played->n_ops = 0;
    bool busy = true;
    while (played->n_ops < n_ops || busy) {
        move(&scene, played, n_ops);
        busy = false;
        for (unsigned i = 0; i < scene.clients; i++) {
            busy = busy || scene.clients_at[i].busy;
        }
    }
}

/* --- Every order --- */

/* The held value has the tag, or no tag is known of it and the tag may be its own from now on. */
static bool take_tag(struct map *map, unsigned key, uint64_t tag)
{
    uint32_t held = map->holds[key];
    if (held == 0 || map->tags[held] != 0) {
        return held != 0 && map->tags[held] == tag;
    }
    for (uint32_t value = 1; value <= SMALL_VALUES; value++) {
        if (map->tags[value] == tag) {
            return false;
        }
    }
    map->tags[held] = tag;
    return true;
}

static bool was_told(const struct played *played, uint64_t tag)
{
    for (size_t i = 0; i < played->n_ops; i++) {
        for (size_t j = 0; j < played->ops[i].n_steps; j++) {
            const struct linear_step *step = &played->ops[i].steps[j];
            if (step->met_tag == tag || step->made_tag == tag) {
                return true;
            }
        }
    }
    return false;
}

/* The operation takes effect now, and its answer is the one that was told. */
static bool happens(const struct played *played, struct map *map, const struct linear_op *op)
{
    for (size_t i = 0; i < op->n_steps; i++) {
        const struct linear_step *step = &op->steps[i];
        uint32_t held = map->holds[step->key];
        if ((step->met == LINEAR_ABSENT && held != 0) ||
            (step->met == LINEAR_PRESENT && held == 0) ||
            (step->met_value != 0 && step->met_value != held) ||
            (step->met_tag != 0 && !take_tag(map, step->key, step->met_tag))) {
            return false;
        }
    }
    if (op->outcome == LINEAR_FAILED) {
        return !holds_condition(map, &op->steps[op->failed]);
    }
    for (size_t i = 0; i < op->n_steps; i++) {
        const struct linear_step *step = &op->steps[i];
        if (step->condition == LINEAR_IF_MATCH
                ? !was_told(played, step->tag) || !take_tag(map, step->key, step->tag)
                : !holds_condition(map, step)) {
            return false;
        }
    }
    for (size_t i = 0; i < op->n_steps; i++) {
        if (op->steps[i].effect != LINEAR_READ) {
            map->holds[op->steps[i].key] = op->steps[i].value;
        }
    }
    return true;
}

/* Whether the operations that aren't placed yet can follow in some order. */
static bool any_order(const struct played *played, unsigned placed, const struct map *map)
{
    bool all = true;
    for (size_t i = 0; i < played->n_ops; i++) {
        const struct linear_op *op = &played->ops[i];
        if ((placed >> i & 1) != 0) {
            continue;
        }
        all = all && op->outcome == LINEAR_MAYBE;
        bool first = true; /* nobody who must come before is still missing, and it isn't too late */
        for (size_t j = 0; j < played->n_ops; j++) {
            const struct linear_op *other = &played->ops[j];
            first = first && ((placed >> j & 1) != 0
                                  ? other->call < op->end
                                  : other->outcome == LINEAR_MAYBE || other->end > op->call);
        }
        struct map next = *map;
        if (first && happens(played, &next, op) && any_order(played, placed | 1u << i, &next)) {
            return true;
        }
    }
    return all;
}

/* What answers tell of the tags of values. False: they contradict each other. */
static bool learn_tags(const struct played *played, struct map *map)
{
    for (size_t i = 0; i < played->n_ops; i++) {
        for (size_t j = 0; j < played->ops[i].n_steps; j++) {
            const struct linear_step *step = &played->ops[i].steps[j];
            uint32_t value = step->made_tag != 0 ? step->value : step->met_value;
            uint64_t tag = step->made_tag != 0 ? step->made_tag : step->met_tag;
            for (uint32_t other = 1; other <= SMALL_VALUES && value != 0; other++) {
                if (map->tags[other] != 0 && (map->tags[other] == tag) != (other == value)) {
                    return false;
                }
            }
            map->tags[value] = value != 0 ? tag : 0;
        }
    }
    return true;
}

static bool is_explained(const struct played *played)
{
    struct map map = {0};
    return learn_tags(played, &map) && any_order(played, 0, &map);
}

/* --- The tests --- */

static enum linear_verdict check(const struct played *played, char **ret_report)
{
    struct linear_history *history = linear_new();
    record(played, history);
    enum linear_verdict verdict = linear_check(history, ret_report);
    linear_free(history);
    return verdict;
}

/* Changes something in one of the answers, so that it may be wrong. */
static void distort(struct prng *prng, struct played *played)
{
    struct linear_op *op = &played->ops[prng_below(prng, played->n_ops)];
    struct linear_op *other = &played->ops[prng_below(prng, played->n_ops)];
    struct linear_step *step = &op->steps[prng_below(prng, op->n_steps)];
    const struct linear_step *from = &other->steps[prng_below(prng, other->n_steps)];
    if (op->outcome == LINEAR_MAYBE || from->met == LINEAR_NOT_TOLD) {
        return;
    }
    if (prng_chance(prng, 50)) {
        step->met = from->met;
        step->met_tag = from->met_tag;
        step->met_value = step->effect == LINEAR_READ && from->met_tag != 0
                              ? (uint32_t)(from->met_tag - 1000)
                              : 0;
    } else if (op->n_steps == 1 && step->condition != LINEAR_ALWAYS) {
        op->outcome = op->outcome == LINEAR_DONE ? LINEAR_FAILED : LINEAR_DONE;
    } else if (step->effect == LINEAR_READ) {
        step->met = LINEAR_ABSENT;
        step->met_value = 0;
        step->met_tag = 0;
    }
}

static void print_all(const struct played *played)
{
    for (size_t i = 0; i < played->n_ops; i++) {
        const struct linear_op *op = &played->ops[i];
        for (size_t j = 0; j < op->n_steps; j++) {
            const struct linear_step *s = &op->steps[j];
            fprintf(stderr,
                    "%zu.%zu %llu..%llu outcome %d/%zu k%u effect %d v%u if %d/%llu met %d v%u "
                    "t%llu\n",
                    i, j, (unsigned long long)op->call, (unsigned long long)op->end,
                    (int)op->outcome, op->failed, s->key, (int)s->effect, s->value,
                    (int)s->condition, (unsigned long long)s->tag, (int)s->met, s->met_value,
                    (unsigned long long)s->met_tag);
        }
    }
}

static void agrees_with_trying_every_order(void **state)
{
    (void)state;
    static struct played played;
    struct prng prng;
    unsigned good = 0;
    prng_init(&prng, test_seed());
    for (unsigned i = 0; i < SMALL_HISTORIES; i++) {
        play(&prng, 1 + (unsigned)prng_below(&prng, SMALL_KEYS), 15, SMALL_OPS, &played);
        for (uint64_t n = prng_below(&prng, 4); n > 0; n--) {
            distort(&prng, &played);
        }
        bool explained = is_explained(&played);
        char *report;
        enum linear_verdict verdict = check(&played, &report);
        if ((verdict == LINEAR_GOOD) != explained) {
            print_all(&played);
            fail_msg("history %u: there is %s order, but the checker says:\n%s", i,
                     explained ? "an" : "no", report != NULL ? report : "good");
        }
        free(report);
        good += explained;
    }
    printf("%u good histories, %u bad ones\n", good, SMALL_HISTORIES - good);
    assert_true(good > SMALL_HISTORIES / 10 && good < SMALL_HISTORIES * 19 / 20);
}

static void accepts_what_a_true_map_says(void **state)
{
    (void)state;
    static struct played played;
    struct prng prng;
    prng_init(&prng, test_seed() + 1);
    for (unsigned i = 0; i < LARGE_HISTORIES; i++) {
        play(&prng, 1 + (unsigned)prng_below(&prng, LARGE_KEYS), 2, LARGE_OPS, &played);
        char *report;
        enum linear_verdict verdict = check(&played, &report);
        if (verdict != LINEAR_GOOD) {
            fprintf(stderr, "%s", report);
            fail_msg("history %u", i);
        }
        free(report);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(agrees_with_trying_every_order),
        cmocka_unit_test(accepts_what_a_true_map_says),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
