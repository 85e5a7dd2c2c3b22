// Reads Python pickles (protocols 0 to 5) into values, without Python and without running anything.
//
// A pickle is a program for a stack machine; this is an interpreter of the opcodes that store data. Two
// opcodes let a pickle name a Python function and call it, which is how a checkpoint runs code when Python
// loads it. Here a name must be on the list of pickle_globals.h, and a call only records its arguments: a
// file that asks for posix.system is refused by that name. The opcodes are those of CPython's pickletools.
//
// Limits: 2 million values, 8 million references between them, 1 million values on the stack; every length is
// checked against the file before it is used, and payloads stay borrowed from the file.
#pragma once

#include <deque>
#include <vector>

#include "formats/pickle_value.h"

namespace osprey::pickle {

enum class Persistent { kRefused, kAllowed };  // references to data outside the pickle: torch's storages

struct Parsed {
  std::deque<Value> values;              // the arena; values point into it and into the file
  const Value* root = nullptr;           // may be cyclic: walk it with a limit
  std::vector<const Value*> persistent;  // every reference, in the file's order
  std::size_t size = 0;                  // bytes up to and with the STOP opcode
};

// The first pickle in `bytes`. Throws Error(kBadInput).
Parsed parse(Bytes bytes, Persistent persistent);

}  // namespace osprey::pickle
