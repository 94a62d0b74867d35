import { didYouMean, InvalidArgumentError } from '../errors.js';
import { PackedWeight } from '../ops/linalg.js';
import type { LowRankLayer } from '../ops/lowrank.js';
import { keep } from '../scope.js';
import { Tensor } from '../tensor.js';
import { type ForwardContext, inference } from './context.js';
import type { Role } from './role.js';

/** What a module may hold as a parameter: a tensor, or a frozen weight in the layout its kernel wants. */
export type Parameter = Tensor | PackedWeight;

const isParameter = (value: unknown): value is Parameter => value instanceof Tensor || value instanceof PackedWeight;
const join = (prefix: string, name: string): string => (prefix === '' ? name : `${prefix}.${name}`);

/**
 * Base of everything with parameters. Properties that hold modules are its children and properties that hold tensors are its parameters, so a path of property
 * names is the name of a tensor in a checkpoint (`model.layers.0.self_attn.q_proj.weight`). A module owns its tensors: `dispose()` releases them.
 */
export abstract class Module {
  /** Whether layers without a context behave as in training; set through `train()`. */
  training = false;
  readonly role: Role | undefined;

  constructor(role?: Role) {
    this.role = role;
  }

  /** The children by property name, in order of definition. */
  *namedChildren(): Iterable<[string, Module]> {
    for (const [name, value] of Object.entries(this)) if (value instanceof Module) yield [name, value];
  }

  /** This module (under `prefix`, the empty path by default) and every module below it by path, parents first. */
  *namedModules(prefix = ''): Iterable<[string, Module]> {
    yield [prefix, this];
    for (const [name, child] of this.namedChildren()) yield* child.namedModules(join(prefix, name));
  }

  /** The tensors that this module itself holds by property name; a weight that belongs to another module (a tied head) is not among them. */
  *ownParameters(): Iterable<[string, Parameter]> {
    for (const [name, value] of Object.entries(this)) if (isParameter(value)) yield [name, value];
  }

  /** Every parameter of this module and those below by path. */
  *namedParameters(prefix = ''): Iterable<[string, Parameter]> {
    for (const [path, module] of this.namedModules(prefix))
      for (const [name, value] of module.ownParameters()) yield [join(path, name), value];
  }

  /** The parameters that collect a gradient: what an optimizer takes. */
  trainableParameters(): Tensor[] {
    const found = new Set<Tensor>();
    for (const [, value] of this.namedParameters()) if (value instanceof Tensor && value.requiresGrad) found.add(value);
    return [...found];
  }

  /** Shapes of the tensors that this module itself reads from a checkpoint, by property name. */
  parameterShapes(): Record<string, readonly number[]> {
    return Object.fromEntries([...this.ownParameters()].map(([name, value]) => [name, value.shape]));
  }

  /** Puts a frozen parameter of the shape in `parameterShapes()` into the property `name`, in place of what it held; the module owns it from here on. */
  assign(name: string, value: Parameter): void {
    const holder = this as unknown as Record<string, unknown>;
    const before = holder[name];
    if (isParameter(before)) before.dispose();
    holder[name] = value instanceof Tensor ? keep(value) : value;
  }

  /** The module at `path` (`model.layers.0.mlp`); the empty path is this one. Throws `InvalidArgumentError` when there is none. */
  module(path: string): Module {
    if (path === '') return this;
    let current: Module = this;
    let reached = '';
    for (const part of path.split('.')) {
      const children = new Map(current.namedChildren());
      const next = children.get(part);
      if (next === undefined) {
        throw new InvalidArgumentError(
          `module: no child "${part}" in "${reached}" on the way to "${path}"${didYouMean(part, children.keys())}`,
        );
      }
      current = next;
      reached = join(reached, part);
    }
    return current;
  }

  /** Replaces the module at `path`, which must exist, and does not dispose it: the replacement usually wraps it. */
  setModule(path: string, replacement: Module): void {
    const at = path.lastIndexOf('.');
    this.module(path);
    this.module(path.slice(0, Math.max(at, 0))).setChild(path.slice(at + 1), replacement);
  }

  /** Replaces the child of that name. */
  setChild(name: string, replacement: Module): void {
    (this as unknown as Record<string, unknown>)[name] = replacement;
  }

  /** Sets `training` here and below. */
  train(on = true): this {
    for (const [, module] of this.namedModules()) module.training = on;
    return this;
  }

  eval(): this {
    return this.train(false);
  }

  /** No parameter here or below collects a gradient; weights of linear layers are packed for their kernel. */
  freeze(): this {
    for (const [, module] of this.namedModules()) module.setTrainable(false);
    return this;
  }

  /** Every parameter here and below is a dense tensor that collects a gradient. Throws, and changes nothing, where one cannot be trained. */
  unfreeze(): this {
    for (const [, module] of this.namedModules()) module.checkTrainable();
    for (const [, module] of this.namedModules()) module.setTrainable(true);
    return this;
  }

  /** Throws `InvalidArgumentError` when this module itself holds a parameter that cannot be trained. */
  checkTrainable(): void {}

  /** Freezes or unfreezes the tensors that this module itself holds. */
  setTrainable(on: boolean): void {
    for (const [, value] of this.ownParameters()) if (value instanceof Tensor) value.setRequiresGrad(on);
  }

  /** Releases the parameters here and below. */
  dispose(): void {
    for (const [, module] of this.namedModules()) {
      for (const value of Object.values(module)) if (isParameter(value)) value.dispose();
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** A module that maps one tensor to one tensor: what adapters replace and wrap. */
export abstract class Layer extends Module {
  abstract forward(x: Tensor, context?: ForwardContext): Tensor;

  /**
   * What the layer computes in this context where that is one linear product, low-rank branches included, and nothing else: it then can run in one op with other
   * layers of the same x (`forwardAll`). The function gives the terms of one pass, and is called once for it; undefined means `forward` alone knows.
   */
  product(_x: Tensor, _context?: ForwardContext): (() => LowRankLayer) | undefined {
    return undefined;
  }

  /** The layer that computes in this context: another one where this only stands for it, so that callers may take shortcuts for the kinds they know. */
  effective(_context?: ForwardContext): Layer {
    return this;
  }
}

/** Modules by number: `layers.0`, `layers.1`, ... */
export class ModuleList<M extends Module> extends Module {
  readonly #items: M[];

  constructor(items: Iterable<M>) {
    super();
    this.#items = [...items];
  }

  get length(): number {
    return this.#items.length;
  }

  at(index: number): M {
    const item = this.#items[index];
    if (item === undefined) throw new InvalidArgumentError(`module list: no entry ${index}; it has ${this.#items.length}`);
    return item;
  }

  [Symbol.iterator](): Iterator<M> {
    return this.#items[Symbol.iterator]();
  }

  override *namedChildren(): Iterable<[string, Module]> {
    for (const [index, item] of this.#items.entries()) yield [String(index), item];
  }

  override setChild(name: string, replacement: Module): void {
    this.#items[Number(name)] = replacement as M;
  }
}

/** Layers and plain functions of a tensor one after the other; children are numbered by their place among all of them. */
export class Sequential extends Layer {
  readonly #steps: (Layer | ((x: Tensor) => Tensor))[];

  constructor(...steps: (Layer | ((x: Tensor) => Tensor))[]) {
    super();
    this.#steps = steps;
  }

  override *namedChildren(): Iterable<[string, Module]> {
    for (const [index, step] of this.#steps.entries()) if (step instanceof Module) yield [String(index), step];
  }

  override setChild(name: string, replacement: Module): void {
    this.#steps[Number(name)] = replacement as Layer;
  }

  override forward(x: Tensor, context: ForwardContext = this.training ? { training: true } : inference): Tensor {
    let y = x;
    for (const step of this.#steps) y = step instanceof Module ? step.forward(y, context) : step(y);
    return y;
  }
}
