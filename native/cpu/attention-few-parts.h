#pragma once

#include "core/parallel.h"
#include "cpu/attention-few.h"

// Attention of few rows in two rounds of tasks, so that threads share a head: scores of some keys, then some columns of the outputs.

namespace lorikeet::LORIKEET_LEVEL {

inline constexpr int64_t kLeastSharedKeys = 4 * kBlockKeys, kLeastSharedColumns = 32;

/// All tiles, of at most R rows each.
template <class T, int R>
void few_in_parts(const AttentionArgs& a, int64_t parts) {
  using C = compute_t<T>;
  const int64_t tiles = a.batch * a.groups, blocks = (a.keys + kBlockKeys - 1) / kBlockKeys, columns = a.width / parts;
  Scratch scores(tiles * blocks * R * kBlockKeys * static_cast<int64_t>(sizeof(C)));
  const auto each = [&](const auto& body) {
    parallel_for(tiles * parts, [&](int64_t task) {
      Tile tile;
      describe_tile(a, task / parts / a.groups, task / parts % a.groups, 0, tile);
      Scratch scratch((2 * R * a.width + key_room_size<C>(a.width)) * static_cast<int64_t>(sizeof(C)));
      C *queries = scratch.as<C>(), *gathered = queries + R * a.width;
      FewQueries<T, C, R> rows{a, tile, queries, gathered};
      body(rows, task % parts, scores.as<C>() + task / parts * blocks * R * kBlockKeys, gathered + R * a.width);
    });
  };
  each([&](auto& rows, int64_t part, C* kept, C* room) {
    const int64_t begin = rows.tile.all_from / kBlockKeys, count = (rows.tile.all_to + kBlockKeys - 1) / kBlockKeys - begin;
    rows.score_part(part * count / parts, (part + 1) * count / parts, kept, room);
  });
  each([&](auto& rows, int64_t part, const C* kept, C* room) {
    rows.from = part * columns;
    rows.to = rows.from + columns;
    rows.sum_part(kept, room);
  });
}

/// Into how many parts tiles of few rows are cut, so that all threads have work until the end: 1 where whole tiles do as well.
template <class T>
int64_t parts_of_few(const AttentionArgs& a, const Tile& first) {
  const int64_t tiles = a.batch * a.groups, threads = thread_count();
  if (tiles_of(a) > 1 || !is_few<T>(a, first) || first.all_to - first.all_from < kLeastSharedKeys || tiles % threads == 0) return 1;
  int64_t parts = 1;
  while (tiles * parts < 4 * threads && a.width % (2 * parts * kLeastSharedColumns) == 0) parts *= 2;
  return parts;
}

}  // namespace lorikeet::LORIKEET_LEVEL
