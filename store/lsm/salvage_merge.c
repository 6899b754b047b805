/* salvage_merge.c - merging what table rescues hand out. */
#include "store/lsm/salvage_merge.h"

#include <stdlib.h>
#include <string.h>

#include "store/lsm/table_format.h"

/* A key, or the first one above a key. */
struct bound {
    uint16_t size;
    uint8_t data[RECORD_KEY_MAX_BYTES + 1];
};

/* The damaged place that a source was in last. */
struct hole {
    const struct salvage_input *input; /* NULL: none */
    uint64_t offset;
    struct bound end; /* keys up to but without this one may be in it… */
    struct rescue_tags tags;
    struct table_rescue *rescue; /* …if this doesn't exclude them; NULL: it is missing */
};

struct source {
    const struct salvage_run *run;
    size_t at; /* of the input that is open, or the next one */
    struct table_rescue *rescue;
    struct rescue_item item;
    struct bound missing_end; /* what a missing table's item points at */
    struct hole hole;
};

struct merging {
    struct source *sources;
    size_t n;
    const struct salvage_sink *sink;
    struct err_detail *detail;
};

static struct bytes bound_bytes(const struct bound *bound)
{
    return bytes_of(bound->data, bound->size);
}

static void set_bound(struct bound *bound, struct bytes key)
{
    bound->size = (uint16_t)key.size;
    memcpy(bound->data, key.data, key.size);
}

static bool at_end(const struct source *source)
{
    return source->at == source->run->n && !source->rescue;
}

static const struct salvage_input *input_of(const struct source *source)
{
    return &source->run->inputs[source->at];
}

/* --- Moving on -------------------------------------------------------------------------------- */

/* A table that can't be read is one damaged place. */
static void take_missing(struct source *source, const char *text)
{
    const struct table_info *info = &input_of(source)->info;

    source->item = (struct rescue_item){.records = info->records, .text = text};
    if (input_of(source)->has_info) {
        set_bound(&source->missing_end, table_key_bytes(&info->largest));
        source->missing_end.data[source->missing_end.size++] = 0;
        source->item.first_key = table_key_bytes(&info->smallest);
        source->item.end_key = bound_bytes(&source->missing_end);
    }
}

/* The hole's rescue is still asked when its table was read to the end. */
static void forget_hole(struct source *source)
{
    if (source->hole.rescue != source->rescue) {
        table_rescue_free(source->hole.rescue);
    }
    source->hole = (struct hole){.input = NULL};
}

static void close_input(struct source *source)
{
    if (source->hole.rescue != source->rescue) {
        table_rescue_free(source->rescue);
    }
    source->rescue = NULL;
}

/* Takes the next item of the source's input. *ret_more false: it has none. */
static enum err next_of_input(struct merging *merging, struct source *source, bool *ret_more)
{
    const struct salvage_input *input = input_of(source);
    *ret_more = true;
    if (!source->rescue) {
        enum err err = input->missing ? ERR_NOT_FOUND
                                      : table_rescue_open(input->dir, input->name,
                                                          input->has_info ? &input->info : NULL,
                                                          &source->rescue, merging->detail);
        if (err == ERR_NO_MEMORY) {
            return err;
        }
        if (err != ERR_OK && source->item.text == NULL) {
            take_missing(source, input->missing ? input->text : "the file can't be opened");
            return ERR_OK;
        }
        if (err != ERR_OK) {
            *ret_more = false; /* its one item was taken */
            source->item.text = NULL;
            return ERR_OK;
        }
    }
    enum err err = table_rescue_next(source->rescue, &source->item);
    if (err == ERR_OK && !source->item.record && !source->item.text) {
        *ret_more = false;
        close_input(source);
    }
    return err;
}

static bool is_bounded(const struct source *source)
{
    return source->item.record ||
           (source->item.first_key.size > 0 && source->item.end_key.size > 0);
}

/* To the next item that has a place in the order of keys; others are told at once. */
static enum err advance(struct merging *merging, struct source *source)
{
    while (source->at < source->run->n) {
        bool more;
        enum err err = next_of_input(merging, source, &more);
        if (err != ERR_OK) {
            return err;
        }
        if (!more) {
            source->at++;
            continue;
        }
        if (is_bounded(source)) {
            return ERR_OK;
        }
        merging->sink->damage(merging->sink->arg, input_of(source), &source->item, false);
    }
    return ERR_OK;
}

static struct bytes key_of(const struct source *source)
{
    return source->item.record ? record_key(source->item.record) : source->item.first_key;
}

/* The source that comes first: by key, damaged places before records, then the newest. */
static struct source *first_source(const struct merging *merging)
{
    struct source *first = NULL;
    for (size_t i = 0; i < merging->n; i++) {
        struct source *source = &merging->sources[i];
        if (at_end(source)) {
            continue;
        }
        int order = first ? bytes_compare(key_of(source), key_of(first)) : -1;
        if (order == 0 && (!source->item.record || !first->item.record)) {
            order = source->item.record ? 1 : -1;
        } else if (order == 0) {
            order = source->item.record->seq > first->item.record->seq ? -1 : 1;
        }
        first = order < 0 ? source : first;
    }
    return first;
}

/* --- Deciding --------------------------------------------------------------------------------- */

/* A hole that may hold a newer version than `record`, which `from` has. */
static const struct hole *hole_over(const struct merging *merging, const struct source *from,
                                    const struct record *record)
{
    struct bytes key = record_key(record);
    for (size_t i = 0; i < merging->n; i++) {
        const struct source *source = &merging->sources[i];
        const struct hole *hole = &source->hole;
        if (source == from || !hole->input || bytes_compare(key, bound_bytes(&hole->end)) >= 0 ||
            source->run->age > from->run->age) {
            continue;
        }
        if ((!hole->input->has_info || hole->input->info.max_seq > record->seq) &&
            (!hole->rescue || table_rescue_may_hold(hole->rescue, &hole->tags, key))) {
            return hole;
        }
    }
    return NULL;
}

static enum err take_record(struct merging *merging, struct source *source)
{
    const struct salvage_sink *sink = merging->sink;
    const struct record *record = source->item.record;
    const struct hole *hole = hole_over(merging, source, record);

    if (hole && record->kind == RECORD_PUT) {
        sink->older(sink->arg, hole->input, hole->offset, record);
    }
    enum err err = sink->record(sink->arg, record, hole != NULL);
    /* The other versions of this key; this one last, because its bytes go then. */
    for (size_t i = 0; err == ERR_OK && i < merging->n; i++) {
        struct source *other = &merging->sources[i];
        if (other != source && !at_end(other) && other->item.record &&
            bytes_equal(record_key(other->item.record), record_key(record))) {
            err = advance(merging, other);
        }
    }
    return err == ERR_OK ? advance(merging, source) : err;
}

static enum err take_damage(struct merging *merging, struct source *source)
{
    merging->sink->damage(merging->sink->arg, input_of(source), &source->item, true);
    forget_hole(source);
    source->hole.input = input_of(source);
    source->hole.offset = source->item.offset;
    source->hole.tags = source->item.tags;
    source->hole.rescue = source->rescue;
    set_bound(&source->hole.end, source->item.end_key);
    return advance(merging, source);
}

enum err salvage_merge(const struct salvage_run runs[], size_t n_runs,
                       const struct salvage_sink *sink, struct err_detail *detail)
{
    struct merging merging = {.n = n_runs, .sink = sink, .detail = detail};
    struct source *first;

    merging.sources = calloc(n_runs + 1, sizeof merging.sources[0]);
    enum err err = merging.sources ? ERR_OK : ERR_NO_MEMORY;
    for (size_t i = 0; err == ERR_OK && i < n_runs; i++) {
        merging.sources[i].run = &runs[i];
        err = advance(&merging, &merging.sources[i]);
    }
    while (err == ERR_OK && (first = first_source(&merging)) != NULL) {
        err = first->item.record ? take_record(&merging, first) : take_damage(&merging, first);
    }
    for (size_t i = 0; merging.sources && i < n_runs; i++) {
        forget_hole(&merging.sources[i]);
        table_rescue_free(merging.sources[i].rescue);
    }
    free(merging.sources);
    return err;
}
