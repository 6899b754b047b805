#include "api/etag.h"

size_t etag_format(struct store_version version, char out[ETAG_SIZE])
{
    size_t len = store_version_format(version, out + 1);

    out[0] = '"';
    out[len + 1] = '"';
    out[len + 2] = '\0';
    return len + 2;
}

/* etagc: %x21 / %x23-7E / obs-text */
static bool is_tag_byte(char c)
{
    unsigned char byte = (unsigned char)c;

    return byte == 0x21 || (byte >= 0x23 && byte != 0x7F);
}

bool etag_take(struct span *text, struct etag *ret_etag)
{
    const char *at = text->at;
    const char *end = at + text->len;
    const char *opaque;
    struct etag etag = {.weak = end - at >= 2 && at[0] == 'W' && at[1] == '/'};

    if (etag.weak) {
        at += 2;
    }
    if (at == end || *at != '"') {
        return false;
    }
    opaque = ++at;
    while (at < end && is_tag_byte(*at)) {
        at++;
    }
    if (at == end || *at != '"') {
        return false;
    }
    etag.ours = store_version_parse(bytes_of(opaque, (size_t)(at - opaque)), &etag.version);
    *text = span_of(at + 1, (size_t)(end - at - 1));
    *ret_etag = etag;
    return true;
}
