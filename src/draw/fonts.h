// Whether pictures can have text: the one thing about drawing that depends on the machine.
#pragma once

namespace osprey {

// False where no font is installed: drawings and plots then come without text, which the command says once.
bool text_available();

}  // namespace osprey
